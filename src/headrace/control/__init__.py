"""Changes to mounts and keys, jobs and their runner."""
