"""The one gate for input: what a request may carry is checked here, before Gradio or the engine sees it."""
