"""What a person looks at: HTML pages, and the plain facts of any file of ours."""
