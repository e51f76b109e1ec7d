"""The processes of one machine: supervisor, workers, and the channel between them."""
