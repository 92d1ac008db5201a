"""The networks: a codec (autoencoder), a residual-motion model, two latent diffusion models and a segmenter."""
