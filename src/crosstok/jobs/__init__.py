"""The jobs: what the commands do, one file each, and what those that train share."""
