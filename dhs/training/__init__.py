"""The parts of `dhs.train`: configuration, schedule, state, processes, validation, records."""
