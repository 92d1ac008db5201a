"""The networks: a codec, a residual-motion model, and two latent diffusion models."""
