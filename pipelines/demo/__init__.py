"""A small world of textured faces: its town and its room, light, photographs and true geometry."""
