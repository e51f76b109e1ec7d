"""The admin API, its client, the command line and the status page."""
