"""Print the compile report (``python -m benchmarks.gpu_model``)."""

from __future__ import annotations

import sys

from benchmarks.gpu_model.compile_report import main

sys.exit(main())
