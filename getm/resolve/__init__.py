"""From names and providers to URLs: asked when an object is opened, and again when its URL expires."""
