"""The vocabulary every other package speaks. Standard library only; imports nothing of ours."""
