"""From a checkpoint to what runs on a device."""
