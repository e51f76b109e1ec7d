"""The namespace as a directory of this machine: the kernel's FUSE protocol, spoken on the raw device."""
