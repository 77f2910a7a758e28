"""``python -m benchmarks.gpu_model``: print the compile report."""

from __future__ import annotations

import sys

from benchmarks.gpu_model.compile_report import main

sys.exit(main())
