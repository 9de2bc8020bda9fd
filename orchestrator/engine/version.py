"""The version of the story: it changes whenever the order of recorded effects, or what one returns, changes."""

APPLICATION_VERSION = "8"
