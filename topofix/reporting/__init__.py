"""What a person looks at: bars and tables drawn from a barcode or a Record."""
