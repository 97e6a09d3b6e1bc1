"""Statistics of model serving: what clearml-serving publishes, counted exactly."""
