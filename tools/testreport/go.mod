module lifeboat/tools/testreport

go 1.26
