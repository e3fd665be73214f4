"""How much memory a run needs: arithmetic on sizes. Imports no torch."""
