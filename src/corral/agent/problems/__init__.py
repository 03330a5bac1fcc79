"""What an agent finds wrong with its machine: one file a source, judged purely, shown as conditions of the Node."""
