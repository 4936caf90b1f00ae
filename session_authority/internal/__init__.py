"""Generated code that is nobody else's business."""
