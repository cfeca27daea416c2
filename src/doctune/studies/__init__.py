"""The paper's tables and figures as data, and the grid of runs behind each."""
