"""A client of the Model Marketplace for publishers: GraphQL, and tus for what is uploaded."""
