from label_studio import studio

__all__ = ["studio"]
