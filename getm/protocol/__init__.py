"""The pipe protocol between a consumer and an engine: messages, codec, order."""
