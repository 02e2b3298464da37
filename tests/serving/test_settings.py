"""Settings from the environment: what is read, and what stops the start."""

import subprocess
import sys
import traceback

import pytest

from serving.settings import Limits, Logging, Scoring, Secret, ServerTls, Settings, Store

TOKEN = "0123456789abcdef"


def test_an_empty_environment_gives_the_defaults():
    assert Settings.from_environment({}) == Settings()


def test_limits_are_read(tmp_path):
    environment = {
        "RANKING_MAX_BODY_BYTES": "1000",
        "RANKING_MAX_CANDIDATES": "50",
        "RANKING_MAX_SECONDS": "0.5",
        "RANKING_MAX_CONCURRENT": "3",
        "RANKING_MAX_CONNECTIONS": "7",
        "RANKING_MAX_CONNECTION_SECONDS": "60",
        "RANKING_DRAIN_SECONDS": "2.5",
    }
    expected = Limits(
        max_body_bytes=1000,
        max_candidates=50,
        max_seconds=0.5,
        max_concurrent=3,
        max_connections=7,
        max_connection_seconds=60,
        drain_seconds=2.5,
    )
    assert Limits.from_environment(environment) == expected


def test_the_store_and_scoring_are_read():
    environment = {
        "RANKING_STORE_SECONDS": "0.02",
        "RANKING_STRICT": "1",
        "RANKING_ITEMS_MAX_ROWS": "0",
        "RANKING_ITEMS_POLL_SECONDS": "2.5",
        "RANKING_ITEMS_STALE_SECONDS": "60",
        "RANKING_BATCH_ROWS": "1",
        "RANKING_SCORING_WORKERS": "3",
        "RANKING_TORCH_THREADS": "0",
    }
    settings = Settings.from_environment(environment)
    assert settings.store == Store(
        max_seconds=0.02, is_strict=True, max_item_rows=0, poll_seconds=2.5, stale_seconds=60
    )
    assert settings.scoring == Scoring(batch_rows=1, workers=3, torch_threads=0)
    assert (settings.scoring.num_workers, Scoring().num_workers > 0) == (3, True)


def test_the_token_is_read_and_not_shown():
    settings = Settings.from_environment({"RANKING_TOKEN": TOKEN})
    assert (settings.token, TOKEN in repr(settings)) == (TOKEN, False)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANKING_MAX_BODY_BYTES": "16777217"}, "RANKING_MAX_BODY_BYTES: '16777217'; a number"),
        ({"RANKING_MAX_CANDIDATES": "0"}, "RANKING_MAX_CANDIDATES: '0'; a number from 1 to 10000"),
        ({"RANKING_MAX_CANDIDATES": "2.5"}, "RANKING_MAX_CANDIDATES"),
        ({"RANKING_MAX_SECONDS": "nan"}, "RANKING_MAX_SECONDS"),
        ({"RANKING_MAX_CONCURRENT": "many"}, "RANKING_MAX_CONCURRENT"),
        ({"RANKING_STORE_SECONDS": "0"}, "RANKING_STORE_SECONDS: '0'; a number from 0.001 to 60"),
        ({"RANKING_STRICT": "maybe"}, "RANKING_STRICT: 'maybe'; 1 or 0"),
        ({"RANKING_BATCH_ROWS": "0"}, "RANKING_BATCH_ROWS: '0'; a number from 1 to 1000000"),
        ({"RANKING_TOKEN": ""}, "RANKING_TOKEN: 0 characters; at least 16"),
        ({"RANKING_TOKEN": "short"}, "RANKING_TOKEN: 5 characters"),
        ({"RANKING_TOKEN": TOKEN + "\n"}, "RANKING_TOKEN: 17 characters"),
        ({"RANKING_TLS_CERTIFICATE": "/nowhere"}, "RANKING_TLS_CERTIFICATE: '/nowhere'; a file"),
        ({"RANKING_TLS_KEY": ""}, "RANKING_TLS_KEY: ''"),
        ({"RANKING_LOG_SHARE": "0.1"}, "RANKING_LOG_FOLDER: not set"),
        ({"RANKING_LOG_SHARE": "2"}, "RANKING_LOG_SHARE: '2'; a number from 0.0 to 1.0"),
        ({"RANKING_LOG_KEEP_DAYS": "0"}, "RANKING_LOG_KEEP_DAYS: '0'; a number from 1 to 3650"),
        ({"RANKING_LOG_HASH_KEY": ""}, "RANKING_LOG_HASH_KEY: 0 bytes; at least 32"),
        ({"RANKING_LOG_HASH_KEY_FILE": ""}, "RANKING_LOG_HASH_KEY_FILE: ''"),
    ],
)
def test_a_setting_that_cannot_be_kept_stops_the_start(environment, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Settings.from_environment(environment)
    assert str(caught.value).startswith(says)
    assert not environment.get("RANKING_TOKEN") or "short" not in str(caught.value)


def test_client_certificates_need_a_certificate_of_the_server(tmp_path):
    (tmp_path / "ca.crt").write_text("x")
    name = str(tmp_path / "ca.crt")
    with pytest.raises(ValueError, match="only with RANKING_TLS_CERTIFICATE"):
        ServerTls.from_environment({"RANKING_TLS_CLIENT_AUTHORITY": name})
    with pytest.raises(ValueError, match="both or neither"):
        ServerTls.from_environment({"RANKING_TLS_CERTIFICATE": name})


def test_the_key_of_the_log_comes_from_the_environment_or_a_file_and_is_not_shown(tmp_path):
    file, key = tmp_path / "key", "k" * 32
    file.write_text(f"{key}\n")
    named = {"RANKING_LOG_HASH_KEY_FILE": str(file)}
    for environment in ({"RANKING_LOG_HASH_KEY": key}, named):
        settings = Settings.from_environment(environment)
        assert (settings.log_key, key in repr(settings)) == (key.encode(), False)
    assert Settings.from_environment({}).log_key is None
    with pytest.raises(ValueError, match="both are set") as caught:
        Settings.from_environment({"RANKING_LOG_HASH_KEY": key, **named})
    assert key not in str(caught.value)
    file.write_text("short-secret")
    with pytest.raises(ValueError, match=f"FILE: {file}: 12 bytes; at least 32") as caught:
        Settings.from_environment(named)
    assert "short-secret" not in str(caught.value)


def test_the_log_is_off_unless_a_share_is_set():
    assert Logging.from_environment({"RANKING_LOG_FOLDER": "/var/log/x"}).share == 0
    assert Secret.from_environment({}).token is None


def test_the_constructor_reads_no_environment_and_the_environment_no_names_of_fields(monkeypatch):
    monkeypatch.setenv("RANKING_STRICT", "1")
    monkeypatch.setenv("is_strict", "1")
    assert Store() == Store(is_strict=False) == Store.from_environment({"is_strict": "1"})
    assert Store.from_environment().is_strict


def test_an_empty_number_counts_as_not_set_and_a_setting_stays_as_it_is():
    limits = Limits.from_environment({"RANKING_MAX_SECONDS": "", "RANKING_DRAIN_SECONDS": "3"})
    assert limits == Limits(drain_seconds=3)
    with pytest.raises(ValueError, match="frozen"):
        limits.drain_seconds = 4


def test_everything_that_is_wrong_is_named_and_a_token_is_not_shown():
    both = r"RANKING_MAX_SECONDS: 'x'; .*\nRANKING_DRAIN_SECONDS: '0'"
    with pytest.raises(ValueError, match=both):
        Limits.from_environment({"RANKING_MAX_SECONDS": "x", "RANKING_DRAIN_SECONDS": "0"})
    with pytest.raises(ValueError, match="RANKING_TOKEN: 7 char") as caught:
        Secret.from_environment({"RANKING_TOKEN": "x" * 7})
    assert "xxxxxxx" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.process
def test_the_import_is_light():
    heavy = ("torch", "kserve", "numpy", "feast", "mlflow", "pyarrow")
    script = f"import sys, serving.settings; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
