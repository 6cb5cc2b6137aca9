"""What requests take and answers hold: pydantic's models, of which the OpenAPI document is made; one file per noun."""
