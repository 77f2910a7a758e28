"""Thresholds, intervals, resampling and calibration: one place for each rule."""
