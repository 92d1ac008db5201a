"""The networks: a codec (autoencoder), a residual-motion model and two latent diffusion models."""
