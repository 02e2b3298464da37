#!/bin/sh
# Installs the lock $1 into /opt/ranking: a step of each image's build.
set -eu
python3 -m venv /opt/ranking
# The lock is whole, so nothing is resolved; what a package says against it is in overrides.txt.
/opt/ranking/bin/pip install --quiet --no-cache-dir --no-deps --require-hashes --requirement="$1"
/opt/ranking/bin/pip uninstall --quiet --yes pip

# Packages' own tests are large; others than these are imported by their packages.
cd /opt/ranking/lib/python3.11/site-packages
for package in matplotlib networkx pandas pyarrow scipy sklearn sympy torch; do
    [ ! -d $package ] || find $package -type d -name tests -prune -exec rm -rf {} +
done
rm -rf torch/test torch/bin/*Test torch/bin/test_* torch/bin/protoc*
