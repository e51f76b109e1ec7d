"""Fakes and faults that ship with the product: fault proxy, link shaper, manual clock, faulty disk."""
