"""GLM for Distributed Llama: the converter, the runtime and the file formats that they share."""
