"""The document: settings schema, node types, graph values and edits, undo, project file. No Qt."""
