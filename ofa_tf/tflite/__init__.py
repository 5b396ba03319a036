"""Any `.tflite` file, ours or not: what it is, what it says about itself, running it."""
