"""What tests of several folders use: servers, registries, databases, samples; no test module imports another."""
