"""User namespaces: nobody inside is root outside."""
