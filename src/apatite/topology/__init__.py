"""The shape of volumes: persistence diagrams of the cubical complex, and their distances."""
