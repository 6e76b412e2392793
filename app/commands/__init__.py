"""The bodies of the commands; `app.cli` names and assembles them."""
