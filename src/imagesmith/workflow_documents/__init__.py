"""The language of workflow documents: grammar, values, inputs, planning; nothing here runs anything."""
