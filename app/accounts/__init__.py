"""Who may do how much, and what it cost: interfaces and pure rules. `app.store` keeps the data."""
