"""Where a model is computed: each device implements `runtime.device.Device`."""
