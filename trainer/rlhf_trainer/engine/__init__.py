"""DeepSpeed: start-up, training engines, saving. The only room that knows it."""
