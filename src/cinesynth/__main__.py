"""``python -m cinesynth``, and with it ``accelerate launch -m cinesynth``."""

from cinesynth.cli import main

if __name__ == "__main__":
    main()
