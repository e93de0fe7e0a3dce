"""The one error of the embedded services."""


class EmbeddedServiceError(RuntimeError):
    """An embedded service could not be started; the message ends with what to do."""
