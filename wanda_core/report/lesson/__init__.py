"""The lesson's measurements, each as plain values for JSON: one step, one function; and the maker of the stored ones."""
