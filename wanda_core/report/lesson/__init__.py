"""The lesson's measurements, plain values for JSON, a function a step; and the maker of the stored ones."""
