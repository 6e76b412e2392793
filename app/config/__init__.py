"""What the operator writes: the environment (`settings`), and models.toml (`catalog`)."""
