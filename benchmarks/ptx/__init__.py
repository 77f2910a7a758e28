"""An interpreter of compiled PTX: it runs kernels as compiled, without a GPU."""
