"""The page: Gradio tabs and Plotly figures over `wanda_core`."""
