"""The canvas: the document's graph, drawn and edited with mouse and keyboard."""
