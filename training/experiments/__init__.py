"""Measurements that are no daily job: backtest, speed, growth, public data, scaling laws."""
