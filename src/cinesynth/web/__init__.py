"""The app: generate hearts and look at them in a browser, on this machine, without anything from elsewhere."""
