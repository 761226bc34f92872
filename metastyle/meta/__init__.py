"""Algorithm 1: the bilevel step and the training loop around it."""
