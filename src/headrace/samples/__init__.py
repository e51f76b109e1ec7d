"""Objects as the samples of training: numbered, in an order that can be resumed, read ahead. Needs no framework."""

from headrace.samples.order import Order, Share
from headrace.samples.sample import Sample
from headrace.samples.source import Ahead, Samples

__all__ = ["Ahead", "Order", "Sample", "Samples", "Share"]
